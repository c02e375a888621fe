"""What other tools read: dashboards, alert rules, scrape configuration."""
