from glimpse_envs.play.text_width import truncate_to_width


def test_what_is_too_long_is_cut_with_a_mark():
    assert truncate_to_width("hound", 5) == "hound"
    assert truncate_to_width("hounds", 5) == "houn…"
    assert truncate_to_width("猫犬猫", 5) == "猫犬…"
    assert truncate_to_width("猫犬猫", 4) == "猫…"
    assert truncate_to_width("a\x1b[2Jb", 9) == "a[2Jb"
