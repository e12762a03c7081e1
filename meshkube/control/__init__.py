"""The control plane: API server, controllers, scheduler, leader election."""
