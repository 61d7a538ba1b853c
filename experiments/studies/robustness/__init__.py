"""The main job: its runs (`plan`) and what is said about them (`report`)."""
