"""The names, types and shapes of an exported graph's inputs and outputs."""

INPUT = "images"
"""(batch, channels, height, width), RGB or grey, not normalised: uint8 from 0 to 255, or float32 from 0 to 1, as the
card says. Of an episode and an adaptive graph."""

FIRST_LOCATION = "first_location"
"""float32 (batch or 1, 2): where to look first, (x, y) in [-1, 1]; the middle when left out. Of models that look
through a retina, in an episode and an adaptive graph."""

CONFIDENCE = "confidence"
"""float32 (): an image is told when a class has this probability or more; more than 1, which is never, when left out.
Of an adaptive graph."""

MAX_GLIMPSES = "max_glimpses"
"""int64 (): how many glimpses to take at most; one at least is taken, those of the card when left out. Of an adaptive
graph."""

STATE = "state"
"""float32 (batch or 1, state_size): what the model knows already; zeros, which is nothing, when left out of an adaptive
graph, where it needs a batch of one."""

FRAME = "frame"
"""float32 (4,): left and top of the images within the larger image that they are a part of, and its width and height,
pixels. Locations and boxes are those of the larger image. Zeros, for images that are no part of another, when left out.
Of an adaptive graph."""

GLIMPSE = "glimpse"
"""float32 (batch, scales, channels, size, size): pixels in [0, 1], finest scale first; 0 outside the image. Of a
step."""

LOCATION = "location"
"""float32 (batch, 2): where the glimpse was cut, (x, y) in [-1, 1]. Of a step."""

LOGITS = "logits"
"""float32 (batch, time, classes): the belief after each glimpse, before the softmax. Of a step without the time."""

PROBABILITIES = "probabilities"
"""float32 (batch, time, classes): the softmax of the logits over the card's temperature. Of a step without the time."""

LOCATIONS = "locations"
"""float32 (batch, time, 2): each fixation, (x, y) in [-1, 1]; the mean location where attention is spread out."""

BOXES = "boxes"
"""float32 (batch, time, scales, 4): each glimpse's windows, pixels, (left, top, right, bottom), finest scale first. Of
models that look through a retina."""

MAPS = "maps"
"""float32 (batch, time, map_height, map_width): each glimpse's attention weights over equal cells of the image, which
sum to one. Of models whose attention is spread out."""

GLIMPSES = "glimpses"
"""int64 (batch,): how many glimpses each image took; what follows them in the other outputs repeats the last. Of an
adaptive graph."""

NEXT_STATE = "next_state"
"""float32 (batch, state_size): what the model knows after the last glimpse. Of an adaptive graph and a step."""

NEXT_LOCATION = "next_location"
"""float32 (batch, 2): where it would look next, (x, y) in [-1, 1]. Of an adaptive graph and a step."""
