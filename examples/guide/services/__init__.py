"""The services that stand behind the gateway."""
