"""What a demonstration needs around Troupe: stand-ins and data, never part of the product."""
