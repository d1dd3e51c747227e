"""One module per wire dialect, each with `decode(frame)` and `encode(message)` over the values of `messages`.

`y_websocket` serves y-websocket, y-sweet and y/hub clients.
"""
