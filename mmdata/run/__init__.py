"""Running a pipeline: plan, parts, Ray, status."""
