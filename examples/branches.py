"""A network of your own class: branches, an addition, a concatenation, a dropout.

`forward` runs once, with symbols in the place of arrays, and becomes a graph; after that the
network is one native program without Python in it.
"""

import striate as st
from striate import nn
from striate.nn import functional as F


class Branches(nn.Module):
    """Two views of the image side by side, and a block with a shortcut."""

    def __init__(self):
        super().__init__()
        self.fine = nn.Conv2d(1, 4, 3, padding=1)
        self.coarse = nn.Conv2d(1, 4, 7, padding=3)
        self.block = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Linear(8 * 7 * 7, 10)

    def forward(self, x):
        x = F.max_pool2d(x, 2)
        x = F.cat([F.relu(self.fine(x)), F.relu(self.coarse(x))], dim=1)  # (n, 8, 14, 14)
        x = F.relu(x + self.block(x))  # (n, 8, 14, 14)
        x = F.max_pool2d(x, 2)  # (n, 8, 7, 7)
        return self.out(self.drop(x.flatten(1)))


st.manual_seed(2)
net = Branches()
print(st.summary(net, (1, 28, 28)))

train, test = st.data.load("digits")
run = st.fit(net, train, validation=test, epochs=6, optimizer=st.optim.AdamW(lr=3e-3), seed=2)
print(run)

st.save(net, "branches.safetensors")  # loads without the class above
print("loaded:", st.load("branches.safetensors")(test.images[:1]).argmax(), "=", test.labels[0])
