"""The outbox page: mail that waits, for people who run Karta on their own machine."""
