"""What is left of a comparison when it is over: files for people and programs, and the difference of two.

`charts` turns what was seen into curves, `page` writes one HTML file that needs no network, `csv_table` a row
a run, `files` all of it into a folder, `diff` sets two comparisons against each other, `command` is the
command line.  `vendor` has uPlot (MIT, unchanged): 51 KB of JavaScript that each page carries along.
"""
