"""Why is this number what it is? The arithmetic behind one activation of a trained network."""

import numpy as np

import striate as st
from striate.inspect import explain, needed_values

st.manual_seed(0)
net = st.models.lenet5()
train, test = st.data.load("digits")
st.fit(net, train, epochs=2, optimizer=st.optim.Adam(lr=4e-3), seed=0)

image = test.images[:1]
graph = net.to_graph(image.shape[1:])
weights = net.state_dict()

# The numbers inside the native program, exactly as it computed them …
native = net.program(image.shape[1:]).values(image, weights, needed_values(graph, "conv1"))

at = np.unravel_index(native["conv1"].argmax(), graph.nodes["conv1"].shape)  # the strongest one

# … and the same number out of the layer's formula in float64, with every product shown.
why = explain(graph, weights, native, "conv1", at)
print(why.text())
print("the program agrees:", why.agrees)
