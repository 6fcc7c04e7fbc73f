"""What a submission's process sees of the grading, and nothing more: no solution, no test."""
