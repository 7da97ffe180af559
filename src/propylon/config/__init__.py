"""What the operator writes, and how it becomes what runs."""
