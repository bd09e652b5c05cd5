"""Your Django database as a broker: an app for INSTALLED_APPS, and the transport `django://`.

    from kombu_django.publishing import publish

    with transaction.atomic():
        order.save()
        publish({"order": order.pk}, "orders")

This module imports nothing, so that Django can load the app before its models.
"""
