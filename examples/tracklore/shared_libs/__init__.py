"""What Tracklore's services share."""
