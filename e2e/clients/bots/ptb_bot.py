"""A bot with python-telegram-bot. Beside the address of the API, everything is as its handbook has it."""

import os

from telegram import InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.ext import (
    AIORateLimiter,
    Application,
    CallbackQueryHandler,
    CommandHandler,
    ContextTypes,
    MessageHandler,
    filters,
)

API = os.environ["TELEGRAM_API"]
PORT = os.environ.get("WEBHOOK_PORT")
SECRET = os.environ.get("WEBHOOK_SECRET")

LOUDER = InlineKeyboardMarkup([[InlineKeyboardButton("Louder", callback_data="louder")]])


async def start(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    await update.message.reply_text(f"Hello, {update.effective_user.full_name}!")


async def document(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    message = update.message
    file = await message.document.get_file()
    content = bytes(await file.download_as_bytearray())
    caption = f"{len(content)} bytes: {message.caption}"
    await message.reply_document(content, filename=message.document.file_name, caption=caption)


async def echo(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    await update.message.reply_text(update.message.text, reply_markup=LOUDER)


async def louder(update: Update, context: ContextTypes.DEFAULT_TYPE) -> None:
    query = update.callback_query
    await query.answer("Louder it is")
    await query.edit_message_text(query.message.text.upper())


def main() -> None:
    application = (
        Application.builder()
        .token(os.environ["BOT_TOKEN"])
        .base_url(f"{API}/bot")
        .base_file_url(f"{API}/file/bot")
        .rate_limiter(AIORateLimiter(max_retries=2))
        .build()
    )
    application.add_handler(CommandHandler("start", start))
    application.add_handler(MessageHandler(filters.Document.ALL, document))
    application.add_handler(MessageHandler(filters.TEXT & ~filters.COMMAND, echo))
    application.add_handler(CallbackQueryHandler(louder, pattern="^louder$"))
    if PORT:
        application.run_webhook(
            listen="127.0.0.1",
            port=int(PORT),
            url_path="ptb",
            secret_token=SECRET,
            webhook_url=f"http://127.0.0.1:{PORT}/ptb",
        )
    else:
        application.run_polling()


if __name__ == "__main__":
    main()
