"""`striate compare`: two networks side by side."""

from __future__ import annotations


def test_two_networks(cli):
    answer = cli("compare", "resnet20", "resnet32")
    assert answer.code == 0, answer.err
    assert "> only in the second" in answer.out
    found = cli("compare", "lenet5", "lenet5", "--json").json
    assert found["same"] and found["totals"]["parameters"] == [61706, 61706]
    assert found["layers"][0]["a"]["name"] == "conv1"


def test_two_trainings_on_pictures(cli, model, picture):
    answer = cli("compare", model, model, "--image", picture, "--image", picture)
    assert answer.code == 0, answer.err
    assert "Both have the same layers." in answer.out
    assert "On 2 images the greatest output agrees for 100.0%." in answer.out


def test_bad_input(cli, model, picture):
    answer = cli("compare", "lenet5", "lenet9")
    assert answer.code == 2 and "lenet9" in answer.err
    answer = cli("compare", model, "lenet5", "--image", picture)
    assert answer.code == 2 and "take the same images" in answer.err
