"""Images read by window: `picture.py` says what all of them do, one file more for each way of reading."""
