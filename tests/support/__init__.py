"""What tests stand on: real servers, started for the run and gone with it."""
