"""Use cases and reconcilers: one public function is one transaction."""
