"""LeNet-5 as it was published, trained as its paper says: distances to pictures of the digits.

python lenet_1998.py            5,000 bundled digits, 3 times
python lenet_1998.py mnist 15   MNIST's 60,000, 15 times: about 1 % error
"""

import sys

import striate as st

name, epochs = sys.argv[1:3] if len(sys.argv) == 3 else ("digits", "3")
train, test = st.data.load(name)
st.manual_seed(0)
net = st.models.lenet5_1998()
print(f"{sum(p.numel() for p in net.parameters()):,} trained parameters")

# Its criterion (equation 9) is cross-entropy of negated distances and of one constant more, which
# the network itself adds in training.
run = st.fit(
    net,
    train,
    validation=test,
    epochs=int(epochs),
    batch_size=32,
    optimizer=st.optim.Adam(lr=3e-3),
    schedule="one-cycle",
    seed=0,
)
print(f"test error {100 - 100 * run.history[-1]['validation_accuracy']:.2f} %")

sliding = st.models.convolutionalize(net, (1, 32, 32))
print(f"slides over larger images in steps of {sliding.stride[0]} pixels")
