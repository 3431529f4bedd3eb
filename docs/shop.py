"""The application of the page about Celery: the API imports it, and so does the worker."""

from __future__ import annotations

import mongoengine

import bzz
from bzz.async_signals import AsyncSignal, receiver
from bzz.signals import post_create_instance

mongoengine.connect("doctest", host="localhost", port=3334, uuidRepresentation="standard")


class Order(mongoengine.Document):
    number = mongoengine.StringField(primary_key=True)
    customer = mongoengine.StringField(required=True)


api = bzz.Api(title="Shop")
orders = api.add(Order)

shipped = AsyncSignal(providing_args=("order", "parcels"), queue="high_priority")


@receiver(shipped)
def tell_customer(sender, order, **kwargs):
    print(f"Dear {order.customer}, your order {order.number} is on its way.")


@shipped.connect(sender=Order)
async def tell_warehouse(parcels):
    print(f"{parcels} parcels have left.")


@post_create_instance.connect(sender=Order, queue="mail")
def confirm(instance, handler):
    print(f"Mail to {instance.customer} about {instance.number}, placed at {handler.request.path}.")
