"""What goes to disk and comes back: no code in it is ever run.

A new file of a run is a module here that writes and reads it, as `training_json` does,
and two lines in `run_folder`, which holds the name of every file and what is in it.
It is called where a folder is written, in `posterior_files` or `cli/demo_run`, and
where it is read, in `posterior_files` or `cli/report_folder`.
"""
