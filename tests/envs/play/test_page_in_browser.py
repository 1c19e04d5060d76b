import pytest
import torch

from glimpse_envs.classification.scenes import Pictures
from tests.support.play import make_game, serve_in_thread


def test_a_person_plays_in_a_real_browser(client, chromium):
    game = client.server.service.game
    chromium.ask("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    chromium.ask("Page.navigate", url=client.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    assert chromium.script("document.activeElement.id") == "stage"
    chromium.click("#stage", 0.75, 0.25)
    chromium.until("document.querySelectorAll('#dots i[style]').length === 2")
    assert game.round.glimpses[1].location == pytest.approx((0.5, -0.5), abs=0.02)
    x, y = game.round.glimpses[1].location
    chromium.press("ArrowLeft")
    chromium.press("Enter", "\r")
    chromium.until("document.getElementById('look').disabled")
    # A quarter of the finest window, 6 pixels wide, is a whole pixel; the image is 30 wide.
    assert game.round.glimpses[2].location == pytest.approx((x - 2 / 30, y), abs=1e-3)
    chromium.click("#classes button:nth-child(4)")
    chromium.until("!document.getElementById('answered').hidden")
    assert game.entry().answer == 3
    assert chromium.script("document.activeElement.id") == "next"
    chromium.press("Enter", "\r")
    chromium.until("!document.getElementById('searching').hidden")
    chromium.press("7", "7")
    chromium.until("!document.getElementById('answered').hidden")
    assert game.entry().answer == 7
    chromium.click("#next")
    chromium.until("document.querySelectorAll('#figures tr').length === 1")
    assert chromium.complaints == []


def test_a_key_held_down_acts_once(client, chromium):
    game = client.server.service.game
    chromium.ask("Page.navigate", url=client.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.hold("Enter", "\r", 4)
    assert game.round.glimpses_taken == 2
    chromium.script("document.getElementById('look').focus()")
    chromium.hold("Enter", "\r", 4)
    assert game.round.glimpses_taken == 3
    chromium.press("3", "3")
    chromium.until("document.activeElement.id === 'next'")
    chromium.hold("Enter", "\r", 4)
    assert (game.position, game.round.glimpses_taken, game.round.over) == (1, 1, False)
    chromium.script("document.getElementById('look').focus()")
    chromium.hold(" ", " ", 4)
    assert game.round.glimpses_taken == 2
    chromium.script("document.getElementById('stage').focus()")
    chromium.hold(" ", " ", 4)
    assert game.round.glimpses_taken == 3


def test_a_press_that_began_or_ends_beside_the_image_takes_no_glimpse(client, chromium):
    game = client.server.service.game
    chromium.ask("Emulation.setDeviceMetricsOverride", width=1200, height=800, deviceScaleFactor=1, mobile=False)
    chromium.ask("Page.navigate", url=client.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.drag("#question", "#stage")
    chromium.drag("#stage", "#question")
    chromium.drag("#question", "#stage")
    assert game.round.glimpses_taken == 1
    chromium.click("#stage")
    chromium.until("!busy")
    assert game.round.glimpses_taken == 2
    # A press that the browser takes over, to scroll or to zoom, is none.
    chromium.script("pressed = 7; stage.dispatchEvent(new PointerEvent('pointercancel', { pointerId: 7 }))")
    assert chromium.script("pressed === null")


def test_the_page_fits_a_phone_and_is_touched(client, chromium):
    chromium.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    chromium.ask("Emulation.setTouchEmulationEnabled", enabled=True)
    chromium.ask("Page.navigate", url=client.server.url)
    chromium.until("document.querySelectorAll('#classes button').length === 10")
    chromium.touch("#stage", 0.25, 0.75)
    chromium.until("document.querySelectorAll('#dots i[style]').length === 2")
    assert client.server.service.game.round.glimpses[1].location == pytest.approx((-0.5, 0.5), abs=0.02)
    assert chromium.script("document.documentElement.scrollWidth") <= 360
    client.state()
    client.move("answer", answer=2)
    # This page does not know yet that another one has answered.
    chromium.script("document.querySelector('#classes button').click()")
    chromium.until("!document.getElementById('answered').hidden")
    assert chromium.script("document.documentElement.scrollWidth") <= 360
    assert client.server.service.game.entry().answer == 2


LONG = "Donaudampfschifffahrtsgesellschaft"
NAMES = ("yellow", "speed limit 30 km/h", "end_of_all_speed_and_passing_restrictions", "\u901f\u5ea6\u9650\u5236", LONG)
BROKEN = """
[...document.querySelectorAll('#classes button')].flatMap((button) => {
  const text = button.lastChild, found = [];
  for (const word of text.data.matchAll(/[^ ]+/g)) {
    const range = document.createRange();
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    if (new Set([...range.getClientRects()].map((box) => box.top)).size > 1) found.push(word[0]);
  }
  return found;
})
"""
"""The words of the buttons, or the last parts of joined words, that are broken over lines."""


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize(
    "names",
    [("yellow", "purple", "orange", "red"), NAMES, [f"{name} {number}" for name in NAMES for number in range(9)]],
    ids=["short", "long", "many"],
)
def test_words_of_classes_are_broken_only_where_a_whole_row_is_too_narrow(tmp_path, chromium, names, width):
    images = torch.zeros(len(names), 1, 20, 30, dtype=torch.uint8)
    game = make_game(
        tmp_path,
        images=(1, 2),
        dataset=Pictures(images, torch.arange(len(names)), tuple(names)),
        canvas_height=0,
        canvas_width=0,
    )
    server, thread = serve_in_thread(game)
    try:
        chromium.ask("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
        chromium.ask("Page.navigate", url=server.url)
        chromium.until(f"document.querySelectorAll('#classes button').length === {len(names)}")
        assert set(chromium.script(BROKEN)) <= {LONG}
        cut = "[...document.querySelectorAll('button')].some((button) => button.scrollWidth > button.clientWidth + 1)"
        assert not chromium.script(cut)
        chromium.script("document.querySelector('#classes button').click()")
        chromium.until("!document.getElementById('answered').hidden")
        assert chromium.script("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
