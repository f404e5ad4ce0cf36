"""Ordinary programs with scipy and statsmodels."""

import itertools
import math
import statistics

from ordinary_program import Program

A = [5.1, 4.9, 6.2, 5.8, 6.0, 5.5]
B = [6.8, 7.1, 6.5, 7.4, 6.9, 7.2]
X = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
Y = [2.1, 3.9, 6.2, 7.8, 10.1, 11.9, 14.2, 15.9]
SERIES = [10.0, 12.0, 13.0, 12.0, 15.0, 16.0, 18.0, 17.0, 20.0, 21.0, 23.0, 22.0]


def pooled_t() -> float:
    """Student's t of two samples of the same size."""
    spread = (statistics.variance(A) + statistics.variance(B)) / len(A)
    return (statistics.fmean(A) - statistics.fmean(B)) / math.sqrt(spread)


def slope() -> float:
    return statistics.linear_regression(X, Y).slope


def intercept() -> float:
    return statistics.linear_regression(X, Y).intercept


def slope_error() -> float:
    """The standard error of the slope, by the textbook."""
    residuals = [y - intercept() - slope() * x for x, y in zip(X, Y, strict=True)]
    return math.sqrt(sum(r * r for r in residuals) / (len(X) - 2) / sum((x - 4.5) ** 2 for x in X))


def smoothed(alpha: float) -> float:
    """The forecast of simple exponential smoothing that starts at the first value."""
    level = SERIES[0]
    for value in SERIES:
        level += alpha * (value - level)
    return level


def lag_one() -> float:
    """The first autocorrelation."""
    off = [value - statistics.fmean(SERIES) for value in SERIES]
    return sum(a * b for a, b in itertools.pairwise(off)) / sum(a * a for a in off)


SCIPY = [
    Program(
        "two samples: t test and effect",
        f"""
from scipy import stats
a, b = {A}, {B}
t = stats.ttest_ind(a, b)
result = pd.DataFrame({{"t": [t.statistic], "df": [t.df], "sure": [bool(t.pvalue < 0.001)]}})
""",
        {"t": [pooled_t()], "df": [10.0], "sure": [True]},
    ),
    Program(
        "chi squared, Fisher and the binomial",
        """
from scipy import stats
table = [[10, 20], [30, 40]]
chi2, p, dof, expected = stats.chi2_contingency(table, correction=False)
result = pd.DataFrame({"chi2": [chi2], "dof": [dof], "odds": [stats.fisher_exact(table)[0]],
                       "heads": [stats.binomtest(9, 10).pvalue], "normal": [stats.norm.cdf(1.96)]})
""",
        {
            "chi2": [100 * (10 * 40 - 20 * 30) ** 2 / (30 * 70 * 40 * 60)],
            "dof": [1],
            "odds": [10 * 40 / (20 * 30)],
            "heads": [2 * (10 + 1) / 2**10],
            "normal": [statistics.NormalDist().cdf(1.96)],
        },
    ),
    Program(
        "correlations and a regression line",
        f"""
from scipy import stats
x, y = {X}, {Y}
line = stats.linregress(x, y)
result = pd.DataFrame({{"slope": [line.slope], "error": [line.stderr], "r": [line.rvalue],
                       "rank": [stats.spearmanr(x, y).statistic], "tau": [stats.kendalltau(x, y[::-1]).statistic]}})
""",
        {
            "slope": [slope()],
            "error": [slope_error()],
            "r": [statistics.correlation(X, Y)],
            "rank": [1.0],
            "tau": [-1.0],
        },
    ),
    Program(
        "minimize, root and curve_fit",
        """
from scipy.optimize import brentq, curve_fit, linprog, minimize
low = minimize(lambda p: (p[0] - 3) ** 2 + (p[1] + 1) ** 2, [0, 0])
x = np.linspace(0, 4, 30)
(a, b), _ = curve_fit(lambda x, a, b: a * np.exp(-b * x), x, 2.5 * np.exp(-1.3 * x))
plan = linprog([-3, -5], A_ub=[[1, 0], [0, 2], [3, 2]], b_ub=[4, 12, 18])
result = pd.DataFrame({"low": low.x, "fit": [a, b], "plan": plan.x, "root": brentq(lambda x: x**2 - 2, 0, 2)})
""",
        {"low": [3.0, -1.0], "fit": [2.5, 1.3], "plan": [2.0, 6.0], "root": [math.sqrt(2)] * 2},
        within=1e-5,
    ),
    Program(
        "peaks, a filter and a spectrum",
        """
from scipy import fft, signal
t = np.arange(0, 4, 1 / 128)
wave = np.sin(2 * np.pi * 5 * t) + 0.2 * np.sin(2 * np.pi * 40 * t)
power = np.abs(fft.rfft(wave, workers=2))
peaks, _ = signal.find_peaks(np.sin(2 * np.pi * 5 * t), height=0.9)
b, a = signal.butter(4, 15, fs=128)
calm = signal.filtfilt(b, a, wave)
left = np.abs(calm - np.sin(2 * np.pi * 5 * t))[128:-128].max()
result = pd.DataFrame({"hz": [fft.rfftfreq(len(t), 1 / 128)[power.argmax()]], "peaks": [len(peaks)],
                       "calm": [bool(left < 0.02)]})
""",
        {"hz": [5.0], "peaks": [20], "calm": [True]},
    ),
    Program(
        "interpolation and integration",
        """
from scipy import integrate, interpolate
spline = interpolate.CubicSpline([0, 1, 2, 3], [0, 1, 8, 27])
line = interpolate.interp1d([0, 10], [0, 100])
area, _ = integrate.quad(np.sin, 0, np.pi)
path = integrate.solve_ivp(lambda t, y: -y, (0, 1), [1.0], rtol=1e-9, atol=1e-9)
result = pd.DataFrame({"cube": [float(spline(1.5))], "line": [float(line(2.5))], "area": [area],
                       "decay": [path.y[0, -1]]})
""",
        {"cube": [1.5**3], "line": [25.0], "area": [2.0], "decay": [math.exp(-1)]},
        within=1e-6,
    ),
    Program(
        "distances, clusters and sparse matrices",
        """
from scipy import cluster, linalg, ndimage, sparse, spatial
points = np.array([[0.0, 0], [3, 4], [3, 5], [0, 1]])
tree = spatial.KDTree(points)
groups = cluster.hierarchy.fcluster(cluster.hierarchy.linkage(points), 2, "maxclust")
ring = sparse.csr_matrix(([1, 1], ([0, 1], [1, 2])), shape=(4, 4))
result = pd.DataFrame({
    "far": spatial.distance.pdist(points).max(), "near": tree.query(points, k=2)[0][:, 1],
    "same": groups == groups[0], "parts": sparse.csgraph.connected_components(ring, directed=False)[0],
    "norm": linalg.norm(points), "spots": ndimage.label([[1, 0, 1]])[1],
})
""",
        {
            "far": [math.hypot(3, 5)] * 4,
            "near": [1.0] * 4,
            "same": [True, False, False, True],
            "parts": [2] * 4,
            "norm": [math.sqrt(25 + 34 + 1)] * 4,
            "spots": [2] * 4,
        },
    ),
]

STATSMODELS = [
    Program(
        "ordinary least squares with its table",
        f"""
import statsmodels.api as sm
x, y = np.array({X}), np.array({Y})
model = sm.OLS(y, sm.add_constant(x)).fit()
assert "R-squared" in str(model.summary())
result = pd.DataFrame({{"estimate": model.params, "r2": model.rsquared, "error": model.bse[1]}})
""",
        {
            "estimate": [intercept(), slope()],
            "r2": [statistics.correlation(X, Y) ** 2] * 2,
            "error": [slope_error()] * 2,
        },
    ),
    Program(
        "a formula with categories",
        """
import statsmodels.formula.api as smf
frame = pd.DataFrame({"y": [1.0, 3, 4, 6, 10, 12], "g": list("aabbcc")})
fit = smf.ols("y ~ C(g)", data=frame).fit()
result = fit.params.rename_axis("term").rename("value")
""",
        {"term": ["Intercept", "C(g)[T.b]", "C(g)[T.c]"], "value": [2.0, 3.0, 9.0]},
    ),
    Program(
        "a generalised linear model (logit of two groups)",
        """
import statsmodels.api as sm
frame = pd.DataFrame({"g": [0] * 10 + [1] * 10, "y": [1] * 2 + [0] * 8 + [1] * 6 + [0] * 4})
fit = sm.GLM(frame["y"], sm.add_constant(frame["g"]), family=sm.families.Binomial()).fit()
result = pd.DataFrame({"value": fit.params.values, "share": fit.predict([[1, 0], [1, 1]])})
""",
        {"value": [math.log(2 / 8), math.log(6 / 4) - math.log(2 / 8)], "share": [0.2, 0.6]},
        within=1e-6,
    ),
    Program(
        "exponential smoothing",
        f"""
from statsmodels.tsa.holtwinters import ExponentialSmoothing, SimpleExpSmoothing
series = pd.Series({SERIES}, index=pd.date_range("2025-01-01", periods={len(SERIES)}, freq="MS"))
simple = SimpleExpSmoothing(series, initialization_method="known", initial_level=series.iloc[0])
simple = simple.fit(smoothing_level=0.3, optimized=False)
line = pd.Series(np.arange(12.0) * 2 + 5, index=series.index)
trend = ExponentialSmoothing(line, trend="add", initialization_method="estimated").fit()
result = pd.DataFrame({{"simple": simple.forecast(2), "trend": trend.forecast(2)}}).rename_axis("month")
""",
        {
            "month": ["2026-01-01 00:00:00", "2026-02-01 00:00:00"],
            "simple": [smoothed(0.3)] * 2,
            "trend": [29.0, 31.0],
        },
        within=1e-4,
    ),
    Program(
        "ARIMA: a walk with drift",
        f"""
from statsmodels.tsa.arima.model import ARIMA
from statsmodels.tsa.stattools import acf
series = pd.Series({SERIES})
fit = ARIMA(series, order=(0, 1, 0), trend="t").fit()
result = pd.DataFrame({{"drift": [fit.params["x1"]], "next": [fit.forecast(1).iloc[0]], "acf": [acf(series)[1]]}})
""",
        {"drift": [12 / 11], "next": [22 + 12 / 11], "acf": [lag_one()]},
        within=1e-4,
    ),
    Program(
        "a season taken out, and analysis of variance",
        """
import statsmodels.api as sm
from statsmodels.formula.api import ols
from statsmodels.tsa.seasonal import seasonal_decompose
season = [3.0, -1, -4, 2] * 4
series = pd.Series(np.arange(16) * 0.5 + season, index=pd.period_range("2021Q1", periods=16, freq="Q").to_timestamp())
parts = seasonal_decompose(series, model="additive", period=4)
frame = pd.DataFrame({"y": [1.0, 2, 3, 5, 6, 7], "g": list("aaabbb")})
f = sm.stats.anova_lm(ols("y ~ g", frame).fit()).loc["g", "F"]
result = pd.DataFrame({"season": parts.seasonal.iloc[:4].values, "f": f})
""",
        {"season": [3.0, -1.0, -4.0, 2.0], "f": [24.0] * 4},
        within=1e-6,
    ),
]
