import striate as st
from striate import nn

st.manual_seed(0)
net = nn.Sequential(
    *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
    *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
)
train, test = st.data.load("digits")  # 5,000 + 1,000 real handwritten digits; or "mnist" …
adam = st.optim.Adam(lr=4e-3)
run = st.fit(net, train, validation=test, epochs=12, optimizer=adam, schedule="one-cycle", seed=0)
print(f"{run.history[-1]['validation_accuracy']:.1%} of the test digits are recognised")

scores = net(test.images[:4])  # NumPy in, NumPy out; any number of images
print("predicted", scores.argmax(axis=1), "labels", test.labels[:4])

st.save(net, "lenet.safetensors")  # the graph travels with the weights,
loaded = st.load("lenet.safetensors")  # so no code of yours is needed to load it
print("the same bits after loading:", bool((loaded(test.images[:4]) == scores).all()))
