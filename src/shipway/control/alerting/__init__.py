"""What `control.alerts` works with: measuring, channels, sending and acting."""
