"""What operators watch: metrics, alarms and the dashboard."""
