"""One row, or one family of rows, in each file: `ROWS` names them, `measure` gives their figures."""
