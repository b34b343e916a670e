"""Expected numbers of quantile regression, from scikit-learn's QuantileRegressor, which solves the
linear program exactly, and statsmodels' QuantReg, which iterates as Gradlake does.

    python quantiles.py DATA              writes quantiles.json beside this script
    python quantiles.py DATA FOLDER       writes all rows to FOLDER/quantiles.json (statsmodels alone), for
                                          GRADLAKE_EXACT_ORACLE=FOLDER cargo test -p gradlake-udfs --lib irls

DATA is the folder with california_housing_train.parquet. Inputs and the target are standardised and
rounded to float32. Where both libraries run, they must agree to a thousandth of the largest weight.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import statsmodels.api as sm
from sklearn.linear_model import QuantileRegressor

FOLDER = Path(sys.argv[2]) if len(sys.argv) > 2 else None
QUANTILES = [0.1, 0.5, 0.9]
TARGET = "median_house_value"

table = pq.read_table(Path(sys.argv[1]) / "california_housing_train.parquet").to_pandas()
table = table.select_dtypes("number").dropna()
y = table.pop(TARGET).to_numpy(float)
x = table.to_numpy(float)
if FOLDER is None:
    chosen = np.random.default_rng(5).choice(len(y), 300, replace=False)
    x, y = x[chosen], y[chosen]
x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
y = ((y - y.mean()) / y.std()).astype(np.float32)
full = np.c_[x, np.ones(len(y))].astype(float)

found, losses = [], []
for q in QUANTILES:
    iterated = sm.QuantReg(y.astype(float), full).fit(q=q, max_iter=5000, p_tol=1e-9).params
    if FOLDER is None:
        exact = QuantileRegressor(quantile=q, alpha=0, solver="highs").fit(x, y)
        exact = np.r_[exact.coef_, exact.intercept_]
        assert np.abs(exact - iterated).max() < 1e-3 * np.abs(exact).max()
        iterated = exact
    r = y - full @ iterated
    found.append(iterated)
    losses.append(np.where(r > 0, q * r, (q - 1) * r).mean())
found = np.array(found).T

numbers = lambda a: [float(f"{v:.9g}") for v in np.ravel(a)]
case = {
    "rows": len(y), "dense": x.shape[1], "columns": 0, "categories": 0,
    "x": numbers(x), "codes": [], "label": numbers(y), "weight": [1.0] * len(y),
    "outputs": len(QUANTILES), "l2": 0.0,
    "weights": numbers(found[:-1]), "intercepts": numbers(found[-1]), "loss": float(sum(losses)),
}
path = (FOLDER or Path(__file__).parent) / "quantiles.json"
path.write_text(json.dumps(case, separators=(",", ":")) + "\n")
print(path, path.stat().st_size, losses)
