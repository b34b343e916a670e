"""The rows of the table, by name, in order."""

from rows import linear, networks, prediction, scale, stream

ALL = {**linear.ROWS, **networks.ROWS, **prediction.ROWS, **scale.ROWS, **stream.ROWS}
