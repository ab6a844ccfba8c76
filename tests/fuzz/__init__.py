"""Open thousands of damaged files of each kind, and count how that ends.

A case is a valid sample that a seed has changed; it is opened by a public function in a process
with limits of time and memory. `kinds` says what is opened, `mutations` how it is changed, `pool`
runs the processes. One case again: ``make fuzz CASE=images:17``.
"""
