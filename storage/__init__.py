"""The floor both programs stand on: domain types, crypto, all SQL, migrations."""
