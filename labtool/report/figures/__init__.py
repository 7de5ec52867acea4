"""The report's figures, a module each: `draw(data, analysis, run)` returns those that the data can fill."""
