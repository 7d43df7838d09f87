"""What `bench.py` measures, a file a subject; `cases.CASES` names it all."""
