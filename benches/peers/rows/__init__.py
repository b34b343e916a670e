"""The rows of the table, by name, in order."""

from rows import linear, networks, prediction, scale, stream, unsupervised

ALL = {
    **linear.ROWS, **networks.ROWS, **unsupervised.ROWS, **prediction.ROWS, **scale.ROWS, **stream.ROWS,
}
