"""From result rows to the tables and statistics that a report shows; nothing here touches a model."""
