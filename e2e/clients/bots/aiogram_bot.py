"""A bot with aiogram. Beside the address of the API, everything is as its handbook has it."""

import asyncio
import os

from aiogram import Bot, Dispatcher, F
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramRetryAfter
from aiogram.filters import CommandStart
from aiogram.types import BufferedInputFile, CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Message
from aiogram.webhook.aiohttp_server import SimpleRequestHandler, setup_application
from aiohttp import web

API = os.environ["TELEGRAM_API"]
PORT = os.environ.get("WEBHOOK_PORT")
SECRET = os.environ.get("WEBHOOK_SECRET")

LOUDER = InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Louder", callback_data="louder")]])

dp = Dispatcher()


@dp.message(CommandStart())
async def start(message: Message) -> None:
    await message.answer(f"Hello, {message.from_user.full_name}!")


@dp.message(F.document)
async def document(message: Message, bot: Bot) -> None:
    content = (await bot.download(message.document)).read()
    file = BufferedInputFile(content, filename=message.document.file_name)
    await message.answer_document(file, caption=f"{len(content)} bytes: {message.caption}")


@dp.message(F.text)
async def echo(message: Message) -> None:
    try:
        await message.answer(message.text, reply_markup=LOUDER)
    except TelegramRetryAfter as refusal:
        await asyncio.sleep(refusal.retry_after)
        await message.answer(message.text, reply_markup=LOUDER)


@dp.callback_query(F.data == "louder")
async def louder(query: CallbackQuery) -> None:
    await query.answer("Louder it is")
    await query.message.edit_text(query.message.text.upper())


@dp.startup()
async def set_webhook(bot: Bot) -> None:
    if PORT:
        await bot.set_webhook(f"http://127.0.0.1:{PORT}/aiogram", secret_token=SECRET)


def main() -> None:
    bot = Bot(os.environ["BOT_TOKEN"], session=AiohttpSession(api=TelegramAPIServer.from_base(API)))
    if PORT:
        app = web.Application()
        SimpleRequestHandler(dispatcher=dp, bot=bot, secret_token=SECRET).register(app, path="/aiogram")
        setup_application(app, dp, bot=bot)
        web.run_app(app, host="127.0.0.1", port=int(PORT))
    else:
        asyncio.run(dp.start_polling(bot))


if __name__ == "__main__":
    main()
