from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import striate as st
from striate.sklearn import ConvFeatures, ConvNetClassifier

train, test = st.data.load("digits")
images, labels = train.images[:1000], train.labels[:1000]

# A network is an estimator like any other: here its learning rate is searched.
grid = {"learning_rate": [0.0001, 0.005]}
search = GridSearchCV(ConvNetClassifier("lenet5", epochs=5, random_state=0), grid, cv=2)
search.fit(images, labels)
print(
    f"best: {search.best_params_}, {search.score(test.images, test.labels):.1%} of the test right"
)

# Or the first half of a pipeline: 64 random filters, never trained, and the largest of each cell.
features = ConvFeatures(
    "conv5x64-relu-softmax", layer="relu1", pooling="max", grid=4, random_state=0
)
linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
pipeline = make_pipeline(features, linear)
print(f"random filters: {pipeline.fit(images, labels).score(test.images, test.labels):.1%}")

pixels = images.reshape(1000, -1), test.images.reshape(1000, -1)
print(f"pixels: {linear.fit(pixels[0], labels).score(pixels[1], test.labels):.1%}")
