"""The wing that makes versions: steps, flows, runs, and the memory that reruns what changed."""
