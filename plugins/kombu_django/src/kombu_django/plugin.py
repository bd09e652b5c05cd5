"""The plugin of kombu_core: it gives the transport for `django://`, once Django is set up.

The models can be imported only then, so this module, which imports them, is apart from the app.
"""

from __future__ import annotations

from typing import Final

from kombu_core.hookspecs import hookimpl
from kombu_core.transport import TransportClass
from kombu_django.readiness import require_django

require_django()

from kombu_django.transport import DjangoTransport  # noqa: E402

#: The major version of kombu_core's contracts that this was written for.
KOMBU_CONTRACT: Final = 1


@hookimpl
def kombu_transport(scheme: str) -> TransportClass | None:
    """Return the Django transport for its scheme."""
    return DjangoTransport if scheme == "django" else None
