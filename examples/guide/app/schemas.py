"""Define what clients send and get: FastAPI checks it, and shows it at `/docs`."""

from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from propylon import PartError

__all__ = ["Account", "Line", "NewOrder", "NewProduct", "Order", "Overview", "Product"]

_PRODUCT = {"name": "Teapot", "price": "24.50", "stock": 3}
_LINE = {"product": 7, "quantity": 2}

Price = Annotated[Decimal, Field(gt=0, max_digits=8, decimal_places=2)]


def _example(example: Any) -> ConfigDict:
    return ConfigDict(json_schema_extra={"example": example})


class NewProduct(BaseModel):
    """A product as an administrator describes it."""

    model_config = _example(_PRODUCT)

    name: str = Field(min_length=1, max_length=100, description="Its name, which is unique.")
    price: Price = Field(description="Its price in euros.")
    stock: int = Field(default=0, ge=0, description="How many there are.")


class Product(NewProduct):
    """A product of the catalogue."""

    model_config = _example({"id": 7, **_PRODUCT})

    id: int = Field(description="Its number.")


class Line(BaseModel):
    """A product in an order."""

    model_config = _example(_LINE)

    product: int = Field(ge=1, description="The number of the product.")
    quantity: int = Field(ge=1, le=100, description="How many of it.")


class NewOrder(BaseModel):
    """What a customer orders."""

    model_config = _example({"lines": [_LINE]})

    lines: list[Line] = Field(min_length=1, max_length=50, description="The products.")

    @model_validator(mode="after")
    def _each_product_once(self) -> Self:
        products = [line.product for line in self.lines]
        if len(set(products)) != len(products):
            msg = "a product stands in two lines; add the quantities"
            raise ValueError(msg)
        return self


class Order(NewOrder):
    """An order."""

    model_config = _example({"id": 1, "lines": [_LINE]})

    id: int = Field(description="Its number.")


class Account(BaseModel):
    """Who asks, as the users service knows them."""

    model_config = _example({"id": 42, "email": "ann@example.com", "roles": ["user"]})

    id: int = Field(description="The number of the account.")
    email: str = Field(description="The email address.")
    roles: list[str] = Field(description="What the user may do.")


class Overview(BaseModel):
    """The first page: of three services. A part whose service fails is an error object."""

    model_config = _example(
        {
            "user": {"id": 42, "email": "ann@example.com", "roles": ["user"]},
            "products": [{"id": 7, **_PRODUCT}],
            "orders": [{"id": 1, "lines": [_LINE]}],
            "partial": False,
        }
    )

    user: Account | PartError = Field(description="Who asks.")
    products: list[Product] | PartError = Field(description="The latest products.")
    orders: list[Order] | PartError = Field(description="The caller's latest orders.")
    partial: bool = Field(description="Whether a part is missing.")
