"""A bot with pyTelegramBotAPI. Beside the address of the API, everything is as its handbook has it."""

import os

import telebot
from telebot import apihelper
from telebot.types import InlineKeyboardButton, InlineKeyboardMarkup
from telebot.util import antiflood

API = os.environ["TELEGRAM_API"]
PORT = os.environ.get("WEBHOOK_PORT")
SECRET = os.environ.get("WEBHOOK_SECRET")

apihelper.API_URL = API + "/bot{0}/{1}"
apihelper.FILE_URL = API + "/file/bot{0}/{1}"

LOUDER = InlineKeyboardMarkup().add(InlineKeyboardButton("Louder", callback_data="louder"))

bot = telebot.TeleBot(os.environ["BOT_TOKEN"])


@bot.message_handler(commands=["start"])
def start(message):
    bot.send_message(message.chat.id, f"Hello, {message.from_user.full_name}!")


@bot.message_handler(content_types=["document"])
def document(message):
    content = bot.download_file(bot.get_file(message.document.file_id).file_path)
    caption = f"{len(content)} bytes: {message.caption}"
    bot.send_document(message.chat.id, content, caption=caption, visible_file_name=message.document.file_name)


@bot.message_handler(content_types=["text"])
def echo(message):
    antiflood(bot.send_message, message.chat.id, message.text, reply_markup=LOUDER)


@bot.callback_query_handler(func=lambda query: query.data == "louder")
def louder(query):
    bot.answer_callback_query(query.id, "Louder it is")
    bot.edit_message_text(query.message.text.upper(), query.message.chat.id, query.message.message_id)


if __name__ == "__main__":
    if PORT:
        bot.run_webhooks(listen="127.0.0.1", port=int(PORT), url_path="telebot", secret_token=SECRET)
    else:
        bot.infinity_polling()
