"""What may attend to what: events, masks, scores, and how users of other libraries write them."""
