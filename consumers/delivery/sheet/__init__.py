"""What delivery to a Google Sheet is made of; ``consumers.delivery.google_sheet`` puts it together."""
