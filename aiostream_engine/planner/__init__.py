"""From lineage to stages to task trees, by pure rules in one visible order."""
