"""Where faces come from: synthetic people and real photos, one record format for both."""
