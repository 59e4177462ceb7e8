"""Why is this number what it is? The arithmetic behind one activation of a trained network."""

import striate as st

st.manual_seed(0)
net = st.models.lenet5()
train, test = st.data.load("digits")
st.fit(net, train, epochs=2, optimizer=st.optim.Adam(lr=4e-3), seed=0)

# The strongest number of the first layer, as the native program computed it, beside the same
# number out of the layer's formula in float64, with every product shown.
why = st.explain(net, test.images[0], "conv1")
print(why.text())
print("the program agrees:", why.agrees)

# And why a weight moves as it does: the terms of one gradient.
print(st.explain_gradient(net, test.images[0], "conv1.weight", (0, 0, 2, 2)).text())
