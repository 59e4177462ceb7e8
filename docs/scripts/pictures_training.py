"""The picture of the page on training: the loss by the learning rate.

python docs/scripts/pictures_training.py      (some seconds)
"""

from __future__ import annotations

from pathlib import Path

import striate as st

IMAGES = Path(__file__).parents[1] / "images"


def main() -> None:
    train, _ = st.data.load("digits")
    st.manual_seed(0)
    net = st.models.build("lenet5")
    found = st.lr_find(net, train, optimizer="adam")
    figure = st.plot.learning_rates(
        found.rates,
        found.losses,
        found.smoothed,
        suggestion=found.suggestion,
        title="LeNet-5 on the digits, Adam",
    )
    st.plot.save(figure, IMAGES / "lr_find.png")


if __name__ == "__main__":
    main()
