"""The main job: to make the online store equal to the latest rows."""
