"""Ordinary programs with scikit-learn."""

import statistics

from ordinary_program import Program

X = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
Y = [2.1, 3.9, 6.2, 7.8, 10.1, 11.9]
SLOPE, INTERCEPT = statistics.linear_regression(X, Y)

PROGRAMS = [
    Program(
        "linear and ridge regression with a score",
        f"""
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.metrics import mean_squared_error, r2_score
x, y = np.array({X}).reshape(-1, 1), np.array({Y})
model = LinearRegression().fit(x, y)
result = pd.DataFrame({{"slope": model.coef_, "intercept": model.intercept_, "r2": r2_score(y, model.predict(x)),
                       "ridge": Ridge(alpha=17.5).fit(x, y).coef_, "mse": mean_squared_error(y, model.predict(x))}})
""",
        {
            "slope": [SLOPE],
            "intercept": [INTERCEPT],
            "r2": [statistics.correlation(X, Y) ** 2],
            # The squares of x about its mean add up to 17.5: a penalty as large halves the slope.
            "ridge": [SLOPE / 2],
            "mse": [statistics.fmean((y - INTERCEPT - SLOPE * x) ** 2 for x, y in zip(X, Y, strict=True))],
        },
    ),
    Program(
        "a random forest on all processors",
        """
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (400, 3))
y = (X[:, 1] > 0).astype(int)
X = X[np.abs(X[:, 1]) > 0.1]; y = (X[:, 1] > 0).astype(int)
train, test, y_train, y_test = train_test_split(X, y, random_state=0)
forest = RandomForestClassifier(n_estimators=50, random_state=0, n_jobs=-1).fit(train, y_train)
result = pd.DataFrame({"score": [forest.score(test, y_test)], "most": [int(forest.feature_importances_.argmax())]})
""",
        {"score": [1.0], "most": [1]},
    ),
    Program(
        "k-means and a silhouette",
        """
from sklearn.cluster import DBSCAN, KMeans
from sklearn.metrics import silhouette_score
corners = np.array([[0, 0], [10, 0], [0, 10]])
points = np.vstack([corners + shift for shift in ([0, 0.1], [0.1, 0], [-0.1, 0], [0, -0.1])])
kmeans = KMeans(n_clusters=3, n_init=10, random_state=0).fit(points)
centres = pd.DataFrame(kmeans.cluster_centers_, columns=["x", "y"]).round(6).abs().sort_values(["x", "y"])
result = centres.assign(good=silhouette_score(points, kmeans.labels_) > 0.95,
                        found=len(set(DBSCAN(eps=1, min_samples=2).fit_predict(points))))
""",
        {"x": [0.0, 0.0, 10.0], "y": [0.0, 10.0, 0.0], "good": [True] * 3, "found": [3] * 3},
    ),
    Program(
        "a pipeline of scaling, one-hot columns and a classifier",
        """
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
prepare = ColumnTransformer([("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["price", "units"]),
                             ("words", OneHotEncoder(handle_unknown="ignore"), ["region"])])
model = make_pipeline(prepare, LogisticRegression()).fit(df, df["product"] == "Tea")
result = pd.DataFrame({"right": [model.score(df, df["product"] == "Tea")],
                       "columns": [prepare.fit_transform(df).shape[1]]})
""",
        {"right": [1.0], "columns": [2 + 4]},
    ),
    Program(
        "cross-validation in two processes",
        """
from sklearn.model_selection import KFold, cross_val_score
from sklearn.linear_model import LinearRegression
x = np.arange(30.0).reshape(-1, 1)
scores = cross_val_score(LinearRegression(), x, 3 * x.ravel() - 1, cv=KFold(5, shuffle=True, random_state=0), n_jobs=2)
result = pd.DataFrame({"folds": [len(scores)], "mean": [scores.mean()], "spread": [scores.std()]})
""",
        {"folds": [5], "mean": [1.0], "spread": [0.0]},
    ),
    Program(
        "a grid search on all processors",
        """
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeRegressor
x = np.repeat(np.arange(8.0), 6).reshape(-1, 1)
search = GridSearchCV(DecisionTreeRegressor(random_state=0), {"max_depth": [1, 2, 8]}, cv=3, n_jobs=-1,
                      scoring="neg_mean_absolute_error")
order = np.random.default_rng(1).permutation(len(x))
search.fit(x[order], (x.ravel() ** 2)[order])
result = pd.DataFrame({"depth": [search.best_params_["max_depth"]], "error": [-search.best_score_]})
""",
        {"depth": [8], "error": [0.0]},
    ),
    Program(
        "joblib's Parallel, with threads and without a word",
        """
from joblib import Parallel, cpu_count, delayed
def square(n):
    return n * n
ways = [Parallel(n_jobs=2)(delayed(square)(n) for n in range(10)),
        Parallel(n_jobs=-1, prefer="threads")(delayed(square)(n) for n in range(10)),
        Parallel(n_jobs=2, backend="threading")(delayed(square)(n) for n in range(10))]
assert ways[0] == ways[1] == ways[2] and cpu_count() >= 1
result = pd.DataFrame({"square": ways[0]})
""",
        {"square": [n * n for n in range(10)]},
    ),
    Program(
        "principal components and neighbours",
        """
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsRegressor
line = np.outer(np.arange(10.0), [3, 4])
pca = PCA(n_components=2).fit(line)
near = KNeighborsRegressor(n_neighbors=3, n_jobs=-1).fit(np.arange(10.0).reshape(-1, 1), np.arange(10.0) * 2)
result = pd.DataFrame({"share": pca.explained_variance_ratio_, "axis": np.abs(pca.components_[0]),
                       "near": near.predict([[4.2], [0.0]])})
""",
        {"share": [1.0, 0.0], "axis": [0.6, 0.8], "near": [8.0, 2.0]},
    ),
    Program(
        "gradient boosting with histograms, and a report",
        """
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import classification_report, confusion_matrix
x = np.linspace(-1, 1, 400).reshape(-1, 1)
y = np.where(x.ravel() > 0, "up", "down")
model = HistGradientBoostingClassifier(random_state=0, max_iter=20).fit(x, y)
matrix = confusion_matrix(y, model.predict(x))
assert "precision" in classification_report(y, model.predict(x))
result = pd.DataFrame(matrix, columns=["down", "up"])
""",
        {"down": [200, 0], "up": [0, 200]},
    ),
    Program(
        "words counted and weighed",
        """
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.naive_bayes import MultinomialNB
texts = ["good tea", "good coffee", "bad cup", "bad lid"]
count = CountVectorizer().fit(texts)
guess = MultinomialNB().fit(count.transform(texts), [1, 1, 0, 0]).predict(count.transform(["good lid good", "bad"]))
result = pd.DataFrame({"words": len(count.get_feature_names_out()), "guess": guess,
                       "length": np.sqrt(TfidfVectorizer().fit_transform(texts).power(2).sum(axis=1)).A1[:2]})
""",
        {"words": [6, 6], "guess": [1, 0], "length": [1.0, 1.0]},
    ),
]
