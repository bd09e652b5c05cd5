"""The admin: queues, messages, and results of tasks."""

from __future__ import annotations

from django.contrib import admin

from kombu_django.message_admin import MessageAdmin
from kombu_django.models import Message, Queue, TaskRecord
from kombu_django.queue_admin import QueueAdmin
from kombu_django.task_admin import TaskRecordAdmin

admin.site.register(Queue, QueueAdmin)
admin.site.register(Message, MessageAdmin)
admin.site.register(TaskRecord, TaskRecordAdmin)
