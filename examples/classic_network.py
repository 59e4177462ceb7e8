import numpy as np

import striate as st

net = st.models.build("resnet18").eval()
photo = np.random.default_rng(0).random((1, 3, 224, 224), np.float32)
scores = st.freeze(net)(photo)
print(scores.shape, "differs by", np.abs(scores - net(photo)).max())
