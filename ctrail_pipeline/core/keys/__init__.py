"""Names of objects in a trail's bucket, and the key time that they cover. Pure functions only."""
