"""An S3 server on a port of the loopback interface, with faults on request.

Prints its port. Requests whose access key is not `key` are refused, as S3 refuses them. The file
named by the first argument says how many of the next requests are answered 503.
"""

import sys
import threading

from moto.server import create_backend_app
from werkzeug.serving import make_server

FORBIDDEN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>InvalidAccessKeyId</Code>'
    b"<Message>The AWS Access Key Id you provided does not exist in our records.</Message></Error>"
)
SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code>'
    b"<Message>Please reduce your request rate.</Message></Error>"
)


class Faults:
    def __init__(self, app, path):
        self.app = app
        self.path = path
        self.lock = threading.Lock()

    def is_unavailable(self):
        with self.lock:
            try:
                with open(self.path) as file:
                    left = int(file.read() or 0)
            except FileNotFoundError:
                return False
            if left > 0:
                with open(self.path, "w") as file:
                    file.write(str(left - 1))
            return left > 0

    def __call__(self, environ, start_response):
        headers = [("Content-Type", "application/xml")]
        if "Credential=key/" not in environ.get("HTTP_AUTHORIZATION", ""):
            start_response("403 Forbidden", headers)
            return [FORBIDDEN]
        if self.is_unavailable():
            start_response("503 Service Unavailable", headers)
            return [SLOW_DOWN]
        return self.app(environ, start_response)


app = Faults(create_backend_app("s3"), sys.argv[1])
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
